"""Every importance, with options that make it quick on a small network."""

OPTIONS = {
    "magnitude": {},
    "l1norm": {},
    "l2norm": {},
    "taylor1": {"samples": 24},
    "taylor2": {"samples": 16},
    "taylor12": {"samples": 16, "hessian": "hutchinson", "probes": 1},
    "l1gate": {"samples": 32, "epochs": 1},
    "l2gate": {"samples": 32, "epochs": 1},
    "empirical": {"samples": 8, "limit": 12},
    "nisp": {"samples": 24},
    "sss": {"samples": 32, "epochs": 1},
}
