"""Reports, tables and figures as files: what was compared or measured, for people and programs."""
