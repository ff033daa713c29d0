"""Config -> run: compose, resolve, freeze, launch. With supervise/, the layer under the command line."""
