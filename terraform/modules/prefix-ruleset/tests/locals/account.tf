# Instead of the data sources in main.tf.

locals {
  account_id = "123456789012"
  partition  = "aws"
  dns_suffix = "amazonaws.com"
  region     = "eu-west-1"
}
