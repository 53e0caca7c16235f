# SPDX-License-Identifier: Apache-2.0
"""The intermediate representations: Graph of framework operators, MatGraph of array operations.

In: nothing.  Out: types, their reference evaluation in numpy, their verification and text.
"""
