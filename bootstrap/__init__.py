"""What a cluster node installs: the wheelhouse, and the script that installs it."""
