"""The engine and its parts: rules, stores, mixing, upsampling, initial values; what methods are made of."""
