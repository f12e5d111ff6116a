"""The engine that makes weights, and the parts that methods are built from: rules, stores, upsampling, budgets."""
