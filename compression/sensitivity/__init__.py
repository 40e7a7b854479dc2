"""What a network loses and saves if one layer, or one group of channels, alone is changed."""
