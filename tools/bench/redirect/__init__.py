"""Part `redirect`: the redirect path as deployed, on one core, beside others; clicks, API, memory."""
