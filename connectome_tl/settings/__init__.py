"""Every knob, as small frozen models checked at birth; and the torch-free records that the report shows."""
