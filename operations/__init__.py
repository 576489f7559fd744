"""What a deployer does with an account: look before deploying, remove, open Spark's history."""
