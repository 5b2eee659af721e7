"""Physics: selection, isolation and features. Arrays in, arrays out; no IO."""
