"""What a deployer does with an account: look before deploying, remove, open Spark's history.

And what they, and CloudFormation for them, must be allowed for it.
"""
