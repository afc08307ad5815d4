"""Page contents: bytes or fingerprints, and the route to the codecs."""
