"""A sweep as people see it before, during and after it runs: plan, forecast, status."""
