//! Bodies: CPIM (RFC 3862), IMDN (RFC 5438), message summaries (RFC 3842), resource lists (RFC 4826), multipart.
//!
//! What is forwarded is forwarded byte for byte: parsers say where things are, and nothing is written again that was not
//! made here.

pub mod cpim;
pub mod imdn;
pub mod media_type;
pub mod message_summary;
pub mod multipart;
pub mod resource_lists;
