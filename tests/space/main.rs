//! Packet sets against what they must equal: truth tables, another library's diagrams, plain lists of numbers.

mod algebra;
mod numbers;
