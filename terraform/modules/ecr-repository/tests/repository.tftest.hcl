mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan # computed attributes are known without an apply

  mock_resource "aws_ecr_repository" {
    defaults = {
      arn            = "arn:aws:ecr:eu-west-1:123456789012:repository/dibbs-ecr-refiner/lambda"
      repository_url = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda"
    }
  }
}

variables {
  name = "dibbs-ecr-refiner/lambda"
}

run "repository_and_its_policy" {
  command = plan

  assert {
    condition     = aws_ecr_repository.this.name == "dibbs-ecr-refiner/lambda"
    error_message = "The repository has another name: ${aws_ecr_repository.this.name}"
  }

  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE"
    error_message = "A published tag could be moved."
  }

  assert {
    condition     = aws_ecr_repository.this.image_scanning_configuration[0].scan_on_push
    error_message = "Images are not scanned."
  }

  assert {
    condition     = aws_ecr_repository.this.encryption_configuration[0].encryption_type == "AES256"
    error_message = "Without a key the repository must use AES-256."
  }

  assert {
    condition     = aws_ecr_repository.this.force_delete == false
    error_message = "Images could be deleted with the repository."
  }

  assert {
    condition     = output.name == "dibbs-ecr-refiner/lambda" && output.arn == aws_ecr_repository.this.arn && output.url == aws_ecr_repository.this.repository_url
    error_message = "The outputs are not those of the repository."
  }

  # Lambda of this account may pull.
  assert {
    condition = jsondecode(aws_ecr_repository_policy.this.policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "LambdaECRImageRetrievalPolicy"
        Effect    = "Allow"
        Principal = { Service = "lambda.amazonaws.com" }
        Action    = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Condition = {
          StringEquals = { "aws:SourceAccount" = "123456789012" }
          ArnLike      = { "aws:SourceArn" = "arn:aws:lambda:eu-west-1:123456789012:function:*" }
        }
      }]
    }
    error_message = "The repository policy differs: ${aws_ecr_repository_policy.this.policy}"
  }
}

run "kms_key_and_expiry_of_untagged_images" {
  command = plan

  variables {
    kms_key_arn          = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    untagged_expiry_days = 7
  }

  assert {
    condition = (
      aws_ecr_repository.this.encryption_configuration[0].encryption_type == "KMS" &&
      aws_ecr_repository.this.encryption_configuration[0].kms_key == var.kms_key_arn
    )
    error_message = "The key is not used."
  }

  assert {
    condition = jsondecode(aws_ecr_lifecycle_policy.this.policy) == {
      rules = [{
        rulePriority = 1
        description  = "Remove untagged images after 7 days"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
        action       = { type = "expire" }
      }]
    }
    error_message = "The lifecycle policy differs: ${aws_ecr_lifecycle_policy.this.policy}"
  }
}
