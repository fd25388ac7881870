"""Triton on Amazon SageMaker: the archive of the model repository, and the AWS calls that serve it."""
