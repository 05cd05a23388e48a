//! What a newcomer sees first: the stories of `restante demo`, and the client for a person's hand.

mod hand;
mod stories;
