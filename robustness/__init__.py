"""The science on tensors: objectives, saliency, attacks, the engine, counts and curves."""
