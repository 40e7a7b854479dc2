"""One file is one technique: every module of this folder is loaded, and nothing else is edited to add one."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
