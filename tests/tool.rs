//! The learner's tool in other hands: other directories, other modes, and programs that nobody knows.
