//! Who calls: the caller of a request, by JWT or gateway token.
