"""Models of other frameworks, made one normalised ONNX file and compared with what they were."""
