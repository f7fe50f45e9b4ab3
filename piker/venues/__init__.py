"""Local venues: servers on loopback that speak a venue's real wire protocol."""
