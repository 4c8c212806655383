"""Clinical evaluation: calibration, net benefit, missing outcomes, sample size."""
