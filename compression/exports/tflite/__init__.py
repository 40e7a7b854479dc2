"""ONNX to TFLite's flatbuffer, for convolutional networks and perceptrons; QDQ becomes full-integer int8."""
