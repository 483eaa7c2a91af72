//! Text of standard tools into the model. A reader never fails as a whole: it returns what it understood and says, line by
//! line, what it did not.
