"""What a clinician asks of risks: calibration, net benefit, missing outcomes, sample size."""
