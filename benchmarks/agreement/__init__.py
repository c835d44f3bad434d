"""int8 agreement: see ../int8_agreement.py."""
