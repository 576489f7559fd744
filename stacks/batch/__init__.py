"""A batch's way through the state machine, whatever runs it: input, trigger, workflow."""
