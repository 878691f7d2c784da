"""Values of options of a training, where commands find them without importing anything heavy."""

CE, CE_SCL, SUPCON, SIMCSE, INFOCSE = "ce", "ce+scl", "supcon", "simcse", "infocse"
LOSSES = (CE, CE_SCL, SUPCON, SIMCSE, INFOCSE)
EMBEDDED = "embedded"
DEV_SHARE = 0.2
