package process_test

const diesWithParent = true
