"""The lab: studies, cells, claims, run folders, reports. Nothing here is needed to use the library."""
