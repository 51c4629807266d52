"""Videos to upscale."""
