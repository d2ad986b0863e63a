package unpack

// WithPathBits runs do with hashes of paths that have so few bits that many paths
// have the same.
func WithPathBits(bits int, do func()) {
	defer func(was int) { pathBits = was }(pathBits)
	pathBits = bits
	do()
}
