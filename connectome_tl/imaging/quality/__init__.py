"""What is wrong with the diffusion data of a scan, measured before anything is made of them."""
