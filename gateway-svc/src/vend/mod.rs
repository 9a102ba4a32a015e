//! The headers an installation sends to its upstream.
//!
//! To come, with these signatures:
//! ```text
//! vend::Vendor (Arc)
//!   async fn headers(&self, &Arc<Installation>, rejected: Option<i64>) -> Result<Arc<Vended>, VendError>
//!      // rejected = Vended.generation the upstream answered with 401; an error then means: no better credential
//!   struct Vended { headers: HeaderMap /* additional + fields + credential, ready to extend a request */, generation: i64 }
//!   enum VendError { Required, Expired, DestinationChanged, Unavailable }  ; VendError::into_call_error(&Entry, &ConsumerRef, &Links)
//! vend::passthrough(client: &HeaderMap, consumer: &Consumer, managed: &HeaderMap, out: &mut HeaderMap)  // allow-list, never overrides
//! ```
