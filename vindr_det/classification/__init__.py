"""The companion classifier: P(abnormal) by any timm model; the only package that imports timm."""
