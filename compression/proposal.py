from compression.technique import Confidence, Proposal, Stage

__all__ = ["Confidence", "Proposal", "Stage"]
