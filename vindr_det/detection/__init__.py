"""Detectors: two engines behind one YAML; ``engine`` chooses, the rest is shared by both."""
