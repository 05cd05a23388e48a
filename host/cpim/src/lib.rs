//! Bodies: CPIM (RFC 3862), IMDN (RFC 5438), message summaries (RFC 3842), resource lists (RFC 4826).
