"""The closed-form core: kernel ridge over blocks of features, stacked and averaged; no torch, no cohort."""
