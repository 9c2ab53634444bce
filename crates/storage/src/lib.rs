//! Opens a backup storage from its URL, probes it, and knows whose it is.
