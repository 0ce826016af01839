"""What all definitions are built from: settings, resources, storage, partitions."""
