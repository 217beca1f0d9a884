"""Model artefacts: manifests, loading by digest, batch inference with onnxruntime."""
