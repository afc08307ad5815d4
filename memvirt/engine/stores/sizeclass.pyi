CHAIN_RULES: dict[str, int]
