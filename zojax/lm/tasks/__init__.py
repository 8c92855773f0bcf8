"""Fine-tuning tasks: parameters, objectives, batches and scores."""
