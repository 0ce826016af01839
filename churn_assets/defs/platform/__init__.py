"""Building blocks of all definitions: settings, resources, storage, partitions."""
