"""The gateway between our overlay and original peer-relay nodes; pure, run by `node.gatekeeper`."""
