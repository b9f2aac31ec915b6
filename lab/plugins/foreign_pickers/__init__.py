"""Third-party routers in front of models that generate tokens: vllm-router and smg, which speak OpenAI's API."""
