"""The parts that methods generate weights with: stores, mixing, upsampling, initial values."""
