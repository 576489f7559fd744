"""A local AWS: moto behind a gate, with the deployed policies, events and Step Functions' EMR."""
