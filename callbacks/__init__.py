"""What happens at validation end: callbacks that run robustness/ and hand its result on."""
