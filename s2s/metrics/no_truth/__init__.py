"""What can be measured on an image whose truth nobody knows. None of it says which denoiser is right."""
